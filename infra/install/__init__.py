"""Steps that turn a bare machine into a node: observed facts and a wish become files and commands."""
