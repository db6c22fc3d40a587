"""Who we are on a link: neighbours and where they are, addresses of ours, ways to others."""
