"""The page of `arzoo demo`: what it asks, how it draws, and its server. `editor`, `page` and `server` need gradio."""
