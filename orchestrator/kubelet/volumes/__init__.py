"""Pod volumes: one file a type, the atomic writer under those that are made of files, and the mounter over all."""
