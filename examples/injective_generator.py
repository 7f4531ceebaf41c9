"""Recover latents from generated digits, by injective and by plain decoders: python examples/injective_generator.py.

All decoders take 16 latents to an 8×8 image and are trained as second halves of autoencoders on the digits of
scikit-learn. The injective one has layers relu([B; −DB]x + c), twice as wide as their inputs; the plain ones have free
weights, with the same widths (16 → 32 → 64) or with narrower ones (16 → 20 → 40).
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from replication import InjectiveReLU, LayerwiseNetwork, PairedReLU

LATENT = 16


def decoder(injective: bool, widths: tuple[int, ...], pixels: int) -> nn.Sequential:
    """Return the ReLU layers and the linear map of a decoder."""
    layers: list[nn.Module] = []
    before = LATENT
    for width in widths:
        layers += [PairedReLU(before, width // 2)] if injective else [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, pixels))


def train(images: Tensor, decoder: nn.Sequential, steps: int) -> nn.Module:
    """Train an encoder and the decoder on reconstruction, and return the encoder."""
    encoder = nn.Sequential(nn.Linear(images.shape[1], 128), nn.ReLU(), nn.Linear(128, LATENT))
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=2e-3)
    for _ in range(steps):
        batch = images[torch.randint(len(images), (128,))]
        loss = (decoder(encoder(batch)) - batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder


def as_network(decoder: nn.Sequential) -> LayerwiseNetwork:
    """Return the decoder's ReLU layers as layers that can be undone, whether they are injective or not."""
    layers = [layer for layer in decoder if isinstance(layer, PairedReLU)]
    free = [layer for layer in decoder[:-1] if isinstance(layer, nn.Linear)]
    return LayerwiseNetwork(*layers, *(InjectiveReLU(layer.weight, layer.bias) for layer in free)).double()


def report(made: nn.Sequential, latents: Tensor) -> None:
    """Say how many latents come back from their images, and whether two latents of the first layer collide."""
    network, last = as_network(made), made[-1].double()
    images = last(network(latents))
    hidden = torch.linalg.lstsq(last.weight, (images - last.bias).mT).solution.mT
    error = (network.inverse(hidden).value - latents).norm(dim=1) / latents.norm(dim=1)
    print(f"  {(error < 1e-6).double().mean():.1%} of {len(error)} latents recovered, largest relative error ", end="")
    print(f"{error.max():.1e}; hidden layers: {network.certificate().verdict.value}")
    witness = network.hidden_layers[0].certificate().witness
    if witness is not None:
        pair = torch.stack(witness)
        change = (last(network(pair[:1])) - last(network(pair[1:]))).norm()
        print(f"  two latents at a distance of {(pair[0] - pair[1]).norm():.1e}, whose images differ by {change:.1e}")


def main(steps: int = 600) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = torch.as_tensor(load_digits().data, dtype=torch.float32) / 16
    training, test = images[:1500], images[1500:]
    for injective, widths in ((True, (32, 64)), (False, (32, 64)), (False, (20, 40))):
        made = decoder(injective, widths, images.shape[1])
        encoder = train(training, made, steps)
        with torch.no_grad():
            latents = encoder(test)
            unexplained = (made(latents) - test).square().mean() / test.var()
            kind = "injective" if injective else "plain"
            print(f"{kind} decoder, widths {widths}: {unexplained:.3f} of the variance of test images unexplained")
            report(made, latents.double())


if __name__ == "__main__":
    main()
