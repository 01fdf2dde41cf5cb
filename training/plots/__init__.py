"""How figures are drawn: numbers in, matplotlib figures out.

figures         the style, and the figures that all tasks have in common
pictures        images of any format as bytes, gray or in color
attempt         a figure that cannot be drawn is a warning
fonts           fonts for names in any script
lr_finder       the loss over the learning rate
svg             charts for a page, in its colors
page_parts      tables, images and examples of an HTML page, as tuples of text
image_encoding  images as the bytes of a file

What is drawn, and of which numbers, is found by `training.report` and by each task. Matplotlib is
imported when the first figure is drawn. Imports `training.common`.
"""
