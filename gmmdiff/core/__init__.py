"""The mathematics: mixtures, NGMG, costs, losses, conditioning, diffusion, distances."""
