"""Where frames come from and go to; knows frames and time, nothing of TCP."""
