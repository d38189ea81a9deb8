"""Edge knowledge distillation over TCP."""
