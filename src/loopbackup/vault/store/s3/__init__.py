"""S3 and what speaks like it: the driver, its connection, its errors, what a bucket says."""
