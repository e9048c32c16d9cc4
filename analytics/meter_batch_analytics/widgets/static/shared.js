// What all widgets share.
