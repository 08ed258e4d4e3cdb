"""Serve one loaded model behind the OpenAI images API.

    middleware -> app -> handlers -> queue -> generator
    who           what   checked     one thread

Whatever can be refused is refused before it takes a place in the queue. One thread alone touches the
model; scores are answered between two denoising steps. Nothing of a prompt is logged or kept.
"""
