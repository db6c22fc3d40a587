"""What a receiver does with any segment in any state: asked of the kernel, and compared with the monitor."""
