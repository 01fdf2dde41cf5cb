"""What the pages of inference share.

template   Jinja2's templates, the HTML files beside it
heatmap    where the network saw a class, as pages and the service show it

Templates load nothing from elsewhere, and escape what they are given. Imports `explain` and
`training.plots`.
"""
