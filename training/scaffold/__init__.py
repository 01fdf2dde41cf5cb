"""From a folder of data to a first config for it: what `convax new` does.

layouts       what a folder is: class folders, masks beside images, COCO ...
class_names   the text file beside masks that names their classes
mask_colors   masks of colors: which there are, and which of them are of no class
survey        what is in it: counts, sizes, channels, files that cannot be read
recipe        a value with its reason; what every config has: splits, optimizer, schedule
whole_images  networks for what is learned of an image as a whole
pretrained    published weights to begin with
pixels        networks for masks
boxes         networks for objects
write         the config as commented TOML, validated
draft         all of it, one after the other

A layout is one more function in `layouts`, a kind of labels one line in `draft.RECIPES`. Imports
`training.config`, `data` and the tasks' registry: what is written is what `training.config`
validates, with the usual values that its error messages suggest.
"""
