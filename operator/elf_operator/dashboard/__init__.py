"""The dashboard: `picture` and `course` are what it shows, `gallery` keeps them, `server` serves the page."""
