"""Where old files are: a folder, a bucket, a file of the local engine."""
