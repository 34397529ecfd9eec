"""The interactive page: `preimage app`. What visitors can choose, the runs they start, the page, and its server.

`catalogue`, `jobs` and `view` are plain Python; `handlers`, `page` and `server` need the extra `app` (Gradio).
"""
