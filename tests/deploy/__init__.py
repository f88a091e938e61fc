"""What is deployed: images, charts and scripts, and processes as the manifests assume them."""
