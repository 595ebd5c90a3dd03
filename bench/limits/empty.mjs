/** A process that does nothing: the floor of `tutorial`. */
