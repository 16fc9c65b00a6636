"""Arrays and kernels on one kind of hardware each; all of them compute the same bits."""
