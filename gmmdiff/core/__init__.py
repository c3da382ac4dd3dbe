"""The mathematics: mixtures, NGMG, costs, conditioning, diffusion, distances."""
