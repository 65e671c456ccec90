"""The decision in forms for people: page, pictures, Markdown, model card."""
