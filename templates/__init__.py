"""What notices say: files per medium, sales channel, language and kind, and the one way to fill them in."""
