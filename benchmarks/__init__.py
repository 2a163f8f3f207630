"""What this project claims about speed, measured side by side with its references."""
