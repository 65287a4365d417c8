"""What the API answers, as models: for its document, and for tests that hold every answer against it. No handler
validates an answer at run time.
"""
