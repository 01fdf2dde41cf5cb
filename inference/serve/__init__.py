"""A trained network as an HTTP service: `convax serve RUN`. A request goes through, in this order:

server           socket, signals
protocol         HTTP without ambiguity; slow clients
app              routes, and the headers that are on every response
admission        limits: images, bytes and requests in flight
uploads          the body of a request, within its limits
decoder          processes that decode, and end when one takes too long
image_decoding   uploaded files as images
batcher          many requests, one call of the network
metrics          counters and histograms for Prometheus
page             the page to try it, ``page.html``

What a response says of an image is the task's own: `respond` in `training.tasks`. Whatever a
client sends has to end in a response and leave nothing counted: `tests/inference/serve`. starlette
and uvicorn are imported where they are needed, so that the other commands do without. Imports
`inference.html`, and the predictor when the service starts.
"""
