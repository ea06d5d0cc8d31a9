"""Requests of people: their states, their deadlines, their register."""
