"""The server around the pages: access, headers, upload limits and background tasks."""
