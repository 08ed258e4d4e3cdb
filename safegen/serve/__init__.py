"""The server: one loaded model behind the OpenAI images API.

    middleware -> app -> handlers -> queue -> generator
    who           what   checked     one thread

What can be refused is refused before it takes a place in the queue. Only one thread touches the model;
scores are answered between two denoising steps. No part of a prompt is logged or kept.
"""
