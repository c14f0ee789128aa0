"""What training runs on."""
