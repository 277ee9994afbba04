"""A Keras member run as one list of torch operations: the same function, weights and file, faster.

Keras on torch calls some 250 layer objects a pass, copies every convolution's input to NCHW and
back, and spells batch normalisation out as five passes. Here the member's graph is read once and
run on tensors that stay in one layout. See `swap` for the door.
"""
