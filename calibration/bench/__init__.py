"""The test bench: processes of teacher, receivers and student; collecting and replaying."""
