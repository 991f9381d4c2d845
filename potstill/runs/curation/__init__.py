"""Files of recorded answers become one clean set of rows, however large: see `curate`."""
