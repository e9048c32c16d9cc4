"""DL/T 645-2007 and -1997, sans-I/O: frames, data items, questions of a reader and answers of a meter."""
