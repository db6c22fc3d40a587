"""What an operator meets: running apps, control socket, metrics, terminal, doctor."""
