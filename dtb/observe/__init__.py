"""What a recorder would see of the firing: BOLD, and measures of spike trains and of BOLD."""
