"""What goes by age, by pressure of the disk and on request, and what is held against all three."""
