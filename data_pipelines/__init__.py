"""From imaging and connectomes to a Brain. Imports dtb; dtb never imports this."""
