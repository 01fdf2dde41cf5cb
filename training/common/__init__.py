"""What several rooms of training share; each file has one idea, and imports no other room.

errors         `ConvaxError`, and the exit code of each kind
train_state    all that decides how training goes on, as one tree
unpack_limits  how much a packed file may unpack to
atomic_io      files that are whole whenever somebody looks
file_lock      one process at a time
cache          where things are kept that can be made again
hashing        the SHA-256 of JSON
program_digest the SHA-256 of what a function computes
python_sources the files of a package, for a digest of its code
json_io        JSON that others may have written
pytree_paths   parameter paths, and regular expressions that choose among them
forgiving      output that may be lost
first_word     that a command is at work, until it says something itself
waiting        what a command is at, for people, while nothing else is seen of it
colors         what is wrong with a table of colors of classes
text           what others wrote, as part of a message
pixel_range    which values of pixels count as 0 and as 1, by their dtype
memory         how much memory a program and the process take
duration       "3 epochs", "10%" or "500 steps", as steps

What only one room needs belongs into that room.
"""
