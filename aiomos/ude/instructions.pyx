"""The instruction set of the machine, as numbers and names; what each op does stands beside it in instructions.pxd."""
