"""How sure the numbers are: bootstrap intervals over test images, and tests over categories."""
