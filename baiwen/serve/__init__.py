"""The server: OpenAI's protocol over the engine, and a chat page."""
