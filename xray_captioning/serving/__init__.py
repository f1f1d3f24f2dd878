"""The API and the app: two front ends over a captioner."""
