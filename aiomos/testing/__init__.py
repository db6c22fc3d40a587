"""For tests of apps and of aiomos itself: frames, captures and scenarios made by hand."""
