"""The comparison of features and classes on CelebA, for whoever has its folder and a GPU."""
