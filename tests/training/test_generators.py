"""The networks that draw."""

import torch

from training.generators import VaeDecoder


def test_sharpness_scales_the_log_odds_of_what_is_drawn_and_not_of_what_is_learnt() -> None:
    torch.manual_seed(0)
    plain, sharp = (VaeDecoder((1, 28, 28), 4, 2, sharpness) for sharpness in (1.0, 3.0))
    sharp.load_state_dict(plain.state_dict())
    latents = torch.randn(5, 4)
    torch.testing.assert_close(sharp.logits(latents), plain.logits(latents))
    torch.testing.assert_close(plain(latents), torch.sigmoid(plain.logits(latents)))
    torch.testing.assert_close(torch.logit(sharp(latents)), 3 * torch.logit(plain(latents)), rtol=1e-4, atol=1e-5)
