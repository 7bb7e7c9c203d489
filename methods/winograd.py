"""3x3 convolutions on a CPU by Winograd's minimal filtering F(4x4, 3x3): a quarter of the multiplications, in float32.

    packed = PackedConv(conv)    # its weights are transformed once
    packed(x)                    # conv(x), to about 1e-6 of its size

Source: A. Lavin, S. Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016 (arXiv:1509.09308), eqs. 8-15: an
output tile of 4x4 pixels is ``A^T [(G g G^T) * (B^T d B)] A`` of the 6x6 pixels d that it sees. The product over channels
becomes 36 matrix products (tiles x C) (C x N). The two transforms are written as one matrix product each (36 x 36 and
16 x 36 over all tiles and channels): they then run at the speed of the matrix library, without a kernel of our own.

Images are held as (B, H, W, C) within a border of one pixel, so that the output of a layer is the input of the next one as
it lies. Tiles are taken in strips of about :data:`TILES`, so that all that a strip needs stays in the cache.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TILES = 128  # of a strip: 36 x 128 x 96 channels are 1.7 MB
LANES = 16  # output channels are padded to whole vectors: the matrix library loses up to a third on others

# From where on the saved products pay for the transforms, on one thread and on two: 84 channels in and out, 32x32 pixels.
LEAST = 28  # C * N / (2 C + N)
LEAST_TILES = 64
SLAB = 2**17  # pixels of which a dense block keeps all features: 350 MB for 258 channels
# Where the polynomials are evaluated, beside infinity: of the output of 172 channels the rounding error is 1e-6 (rms; the
# plain sum: 2e-7). With 0, +-1, +-2, as in the paper, it is twice as large, and five times at its worst pixel.
POINTS = (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(11, 8), Fraction(-11, 8))


def _toom_cook() -> tuple[Tensor, Tensor, Tensor]:
    """A^T (4, 6), G (6, 3) and B^T (6, 6) of F(4, 3) in float64, by the Toom-Cook construction on :data:`POINTS`."""

    def product(roots: Sequence[Fraction]) -> list[Fraction]:
        """Coefficients of prod (x - root), constant first, as six of them."""
        found = [Fraction(1)]
        for root in roots:
            found = [high - root * low for high, low in zip([Fraction(0), *found], [*found, Fraction(0)])]
        return found + [Fraction(0)] * (6 - len(found))

    others = [[other for other in POINTS if other != point] for point in POINTS]
    at_infinity = [Fraction(0)] * 2 + [Fraction(1)]
    output = [[point**power for point in POINTS] + [Fraction(power == 3)] for power in range(4)]
    kernel = [[point**power / math.prod(point - other for other in rest) for power in range(3)]
              for point, rest in zip(POINTS, others)] + [at_infinity]
    inputs = [*map(product, others), product(POINTS)]
    a, g, b = (torch.tensor([[float(value) for value in row] for row in matrix], dtype=torch.float64)
               for matrix in (output, kernel, inputs))
    return a, g, b


_A, _G, _B = _toom_cook()
INPUT, OUTPUT = torch.kron(_B, _B).float(), torch.kron(_A, _A).float()  # (36, 36) and (16, 36): both axes of a tile at once
KERNEL = torch.kron(_G, _G)  # (36, 9) float64


class Grid(NamedTuple):
    """How an image is cut into tiles of 4x4 output pixels: ``images`` x ``rows`` x ``columns`` of them make a strip."""

    height: int
    width: int
    images: int
    rows: int
    columns: int
    bands: int  # strips along the height of an image

    @classmethod
    def of(cls, batch: int, height: int, width: int) -> Grid:
        """Strips of about :data:`TILES` tiles: some rows of tiles of one image, or some small images."""
        down, columns = math.ceil(height / 4), math.ceil(width / 4)
        rows = max(1, min(down, TILES // columns))
        bands = math.ceil(down / rows)
        rows = math.ceil(down / bands)
        images = max((n for n in range(1, batch + 1) if batch % n == 0 and n * rows * columns <= TILES), default=1) \
            if bands == 1 else 1
        return cls(height, width, images, rows, columns, bands)

    @classmethod
    def whole(cls, batch: int, height: int, width: int) -> Grid:
        """One strip for all."""
        return cls(height, width, batch, math.ceil(height / 4), math.ceil(width / 4), 1)

    @property
    def tiles(self) -> int:
        """Of a strip."""
        return self.images * self.rows * self.columns

    def strips(self, batch: int) -> int:
        """Of a batch."""
        return batch // self.images * self.bands

    @property
    def padded(self) -> tuple[int, int]:
        """Sides of an image with its border, and with what the last tiles have beyond it."""
        return 4 * self.rows * self.bands + 2, 4 * self.columns + 2


def tiles_of(x: Tensor) -> int:
    """How many tiles a batch of images (B, C, H, W) is cut into."""
    return x.shape[0] * math.ceil(x.shape[2] / 4) * math.ceil(x.shape[3] / 4)


def padded(grid: Grid, batch: int, channels: int, like: Tensor) -> Tensor:
    """A zero image (B, H', W', C) with border."""
    return like.new_zeros(batch, *grid.padded, channels)


def inside(image: Tensor, grid: Grid) -> Tensor:
    """The view (B, H, W, C) of an image with border."""
    return image[:, 1 : grid.height + 1, 1 : grid.width + 1]


def clear_beyond(image: Tensor, grid: Grid) -> None:
    """Make an image with border zero where an earlier image, or its own last tiles, have written beyond it."""
    image[:, grid.height + 1 :], image[:, :, grid.width + 1 :] = 0, 0


def transformed(image: Tensor, grid: Grid, strip: int, out: Tensor | None = None) -> Tensor:
    """One strip's tiles in Winograd's domain.

    Args:
        image: (B, H', W', C) with border.
        grid: of it.
        strip: its number.
        out: (36, tiles * C) to write to.

    Returns:
        (36, tiles, C).
    """
    first, band = strip // grid.bands * grid.images, strip % grid.bands
    each, row, column, _ = image.stride()
    seen = image.as_strided(
        (6, 6, grid.images, grid.rows, grid.columns, image.shape[3]), (row, column, each, 4 * row, 4 * column, 1),
        image.storage_offset() + first * each + 4 * grid.rows * band * row)
    return torch.mm(INPUT, seen.reshape(36, -1), out=out).view(36, grid.tiles, -1)


def gathered(products: Tensor, bias: Tensor, grid: Grid, strip: int, image: Tensor, slope: float = 1.0) -> None:
    """Write one strip's output pixels.

    Args:
        products: (36, tiles, C), sums over input channels in Winograd's domain.
        bias: (C,).
        grid: of the image.
        strip: its number.
        image: (B, H', W', C) with border; what lies between the image and its border is written, too.
        slope: of the leaky ReLU on the way; 1: none.
    """
    first, band = strip // grid.bands * grid.images, strip % grid.bands
    pixels = OUTPUT @ products.view(36, -1)
    pixels.view(16, grid.tiles, -1).add_(bias)
    if slope != 1:
        F.leaky_relu_(pixels, slope)
    top = 1 + 4 * grid.rows * band
    place = image[first : first + grid.images, top : top + 4 * grid.rows, 1:-1]
    place.unflatten(1, (grid.rows, 4)).unflatten(3, (grid.columns, 4)).copy_(
        pixels.view(4, 4, grid.images, grid.rows, grid.columns, -1).permute(2, 3, 0, 4, 1, 5))


def scattered(image: Tensor, grid: Grid) -> Tensor:
    """The adjoint of :func:`gathered` for a grid of one strip: (B, H, W, C) -> (36, tiles, C)."""
    height, width = 4 * grid.rows, 4 * grid.columns
    image = F.pad(image, (0, 0, 0, width - grid.width, 0, height - grid.height))
    tiles = image.unflatten(1, (grid.rows, 4)).unflatten(3, (grid.columns, 4)).permute(2, 4, 0, 1, 3, 5)
    return (OUTPUT.mT @ tiles.reshape(16, -1)).view(36, grid.tiles, -1)


def overlapped(tiles: Tensor, grid: Grid, batch: int) -> Tensor:
    """The adjoint of :func:`transformed` for a grid of one strip: (36, tiles, C) -> (B, H, W, C)."""
    pixels = (INPUT.mT @ tiles.reshape(36, -1)).view(6, 6, batch, grid.rows, grid.columns, -1).permute(2, 3, 0, 4, 1, 5)
    image = tiles.new_zeros(batch, grid.rows + 1, 4, grid.columns + 1, 4, tiles.shape[2])
    for down, rows in ((0, slice(0, 4)), (1, slice(4, 6))):  # the last two of a tile's six pixels lie in the next one
        for right, columns in ((0, slice(0, 4)), (1, slice(4, 6))):
            part = pixels[:, :, rows, :, columns]
            image[:, down : down + grid.rows, : part.shape[2], right : right + grid.columns, : part.shape[4]] += part
    return image.flatten(3, 4).flatten(1, 2)[:, 1 : grid.height + 1, 1 : grid.width + 1]


def kernel_of(weight: Tensor) -> Tensor:
    """G g G^T of a weight (N, C, 3, 3): (36, N rounded up, C)."""
    outputs, channels = weight.shape[:2]
    taps = weight.new_zeros(9, rounded_up(outputs), channels)
    taps[:, :outputs] = weight.permute(2, 3, 0, 1).flatten(0, 1)
    return (KERNEL.to(taps) @ taps.view(9, -1)).view(36, -1, channels)


def of_weight(kernel: Tensor) -> Tensor:
    """The adjoint of :func:`kernel_of`: (36, N, C) -> (N, C, 3, 3), in memory channels last."""
    _, outputs, channels = kernel.shape
    return (KERNEL.mT.to(kernel) @ kernel.reshape(36, -1)).view(3, 3, outputs, channels).permute(2, 3, 0, 1)


def rounded_up(channels: int) -> int:
    """To whole vectors."""
    return -(-channels // LANES) * LANES


def packed_weight(weight: Tensor, inputs: int) -> Tensor:
    """(N, C, 3, 3) -> (36, inputs, N rounded up), ``inputs`` >= C; the new rows and columns are zero."""
    double = F.pad(weight.detach().double(), (0, 0, 0, 0, 0, inputs - weight.shape[1]))
    return kernel_of(double).mT.float().contiguous()


def packed_bias(layer: nn.Conv2d) -> Tensor:
    """The bias of a layer, zero where it has none, with its padded output channels."""
    bias = layer.weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
    return F.pad(bias.detach(), (0, rounded_up(len(bias)) - len(bias)))


def fits(layer: nn.Module) -> bool:
    """Whether a layer is one that :class:`PackedConv` replaces and makes faster."""
    return (type(layer) is nn.Conv2d and layer.kernel_size == (3, 3) and layer.stride == layer.dilation == (1, 1)
            and layer.padding in ((1, 1), "same") and layer.groups == 1 and layer.weight.dtype == torch.float32
            and layer.in_channels * layer.out_channels >= LEAST * (2 * layer.in_channels + layer.out_channels))


class PackedConv(nn.Module):
    """A 3x3 convolution of stride 1 that keeps the image's size, for inference.

    Args:
        layer: one that :func:`fits`.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.layer = layer
        self.outputs, self.border = layer.out_channels, "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        self.weight, self.bias = packed_weight(layer.weight, layer.in_channels), packed_bias(layer)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, H, W), in memory channels last; of few pixels by the layer itself."""
        if tiles_of(x) < LEAST_TILES:
            return self.layer(x)
        batch, channels, height, width = x.shape
        grid = Grid.of(batch, height, width)
        image = padded(grid, batch, channels, x)
        if self.border == "constant":
            inside(image, grid).copy_(x.permute(0, 2, 3, 1))
        else:
            image[:, : height + 2, : width + 2] = F.pad(x, (1, 1, 1, 1), mode=self.border).permute(0, 2, 3, 1)
        out = x.new_empty(batch, *grid.padded, len(self.bias))
        for strip in range(grid.strips(batch)):
            products = torch.bmm(transformed(image, grid, strip), self.weight)
            gathered(products, self.bias, grid, strip, out)
        return inside(out, grid)[..., : self.outputs].permute(0, 3, 1, 2)


class Workspace:
    """Memory that the blocks of a network share, since one of them runs at a time: fresh pages cost as much as the work."""

    def __init__(self) -> None:
        self.held: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int) -> Tensor:
        """A float32 tensor of that name and shape: zero when it is new, else as it was left."""
        if name not in self.held or self.held[name].shape != shape:
            self.held[name] = torch.zeros(shape)
        return self.held[name]


class PackedDense(nn.Module):
    """A dense block: each layer sees the block's input and all earlier outputs; no feature is copied or transformed twice.

    Every feature is brought into Winograd's domain once and stays there; a layer sums its products with all of them, where
    the plain form concatenates them anew for each layer.

    Args:
        layers: 3x3 convolutions; the inputs of the k-th are the block's input, then the outputs of those before it.
        slope: of the leaky ReLU behind each layer but the last.
        scale: of the last one's output, to which the block's input is added.
        workspace: of the network.
    """

    def __init__(self, layers: Sequence[nn.Conv2d], slope: float, scale: float, workspace: Workspace) -> None:
        super().__init__()
        self.slope, self.scale, self.workspace = slope, scale, workspace
        features = [layers[0].in_channels, *(layer.out_channels for layer in layers[:-1])]
        self.weights = [[packed_weight(part, rounded_up(part.shape[1])) for part in layer.weight.split(features[: k + 1], 1)]
                        for k, layer in enumerate(layers)]
        self.biases = [packed_bias(layer) for layer in layers]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, in memory channels last."""
        height, reach = x.shape[2], 4 * math.ceil(len(self.biases) / 4)  # rows that an output sees above and below its own
        rows = max(4 * reach, SLAB // (x.shape[0] * x.shape[3]))
        if height <= rows + rows // 2:
            return self.block(x)
        out = torch.empty_like(x, memory_format=torch.channels_last)
        for top in range(0, height, rows):
            above = min(reach, top)
            piece = self.block(x[:, :, top - above : top + rows + reach])
            out[:, :, top : top + rows] = piece[:, :, above : above + rows]
        return out

    def block(self, x: Tensor) -> Tensor:
        """The whole block on an image whose features fit into memory."""
        batch, channels, height, width = x.shape
        grid, get = Grid.of(batch, height, width), self.workspace.get
        image = get("image 0", batch, *grid.padded, rounded_up(channels))
        inside(image, grid)[..., :channels] = x.permute(0, 2, 3, 1)
        clear_beyond(image, grid)
        features: list[Tensor] = []  # each (strips, 36, tiles, C)
        for k, (weights, bias) in enumerate(zip(self.weights, self.biases)):
            feature = get(f"feature {k}", grid.strips(batch), 36, grid.tiles * image.shape[3])
            for strip in range(len(feature)):
                transformed(image, grid, strip, out=feature[strip])
            features.append(feature.unflatten(2, (grid.tiles, -1)))
            image = get(f"image {k + 1}", batch, *grid.padded, len(bias))
            for strip in range(len(feature)):
                products = torch.bmm(features[0][strip], weights[0])
                for held, weight in zip(features[1:], weights[1:]):
                    products.baddbmm_(held[strip], weight)
                gathered(products, bias, grid, strip, image, self.slope if k + 1 < len(self.biases) else 1.0)
            clear_beyond(image, grid)
        return torch.add(x, inside(image, grid)[..., :channels].permute(0, 3, 1, 2), alpha=self.scale)


class Convolution(torch.autograd.Function):
    """A stack of 3x3 convolutions in training, each on the block's input and all earlier outputs: one layer, or a dense block.

    All products of the forward and of both gradients are formed in Winograd's domain, to which each image is brought once.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, *parameters: Tensor) -> Tensor:
        """(B, C, H, W) -> what the last layer gives, (B, N, H, W) channels last.

        Args:
            ctx: of autograd.
            x: the block's input.
            slope: of the leaky ReLU behind each layer but the last.
            *parameters: weight (N, C, 3, 3) and bias (N,) of each layer.
        """
        weights, biases = parameters[::2], parameters[1::2]
        batch, channels, height, width = x.shape
        grid = Grid.whole(batch, height, width)
        seen = x.new_empty(36, grid.tiles, weights[-1].shape[1])
        image = padded(grid, batch, channels, x)
        inside(image, grid).copy_(x.permute(0, 2, 3, 1))
        kernels, masks, held = [], [], 0
        for k, (weight, bias) in enumerate(zip(weights, biases)):
            seen[..., held : held + image.shape[3]] = transformed(image, grid, 0)
            held += image.shape[3]
            kernels.append(kernel_of(weight))
            made = torch.bmm(seen[..., :held], kernels[-1].mT)[..., : len(bias)].contiguous()
            image = padded(grid, batch, len(bias), x)
            gathered(made, bias, grid, 0, image, slope if k + 1 < len(weights) else 1.0)
            clear_beyond(image, grid)
            if k + 1 < len(weights):
                masks.append(inside(image, grid) < 0)
        ctx.save_for_backward(seen, *kernels, *masks)
        ctx.grid, ctx.slope, ctx.shapes = grid, slope, (x.shape, [weight.shape for weight in weights])
        return inside(image, grid).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the input, the weights and the biases."""
        grid, ((batch, channels, _, _), shapes) = ctx.grid, ctx.shapes
        seen, *saved = ctx.saved_tensors
        kernels, masks = saved[: len(shapes)], saved[len(shapes) :]
        back = torch.zeros(seen.shape)
        found: list[Tensor] = []
        image = gradient.permute(0, 2, 3, 1)
        held = seen.shape[2]
        for k in reversed(range(len(shapes))):
            outputs = shapes[k][0]
            made = F.pad(scattered(image, grid), (0, rounded_up(outputs) - outputs))  # (36, tiles, N)
            of_kernel = torch.bmm(made.mT, seen[..., :held])[:, :outputs]
            found[:0] = of_weight(of_kernel), image.sum((0, 1, 2))
            back[..., :held] += torch.bmm(made, kernels[k])
            if k:
                held -= shapes[k - 1][0]
                image = overlapped(back[..., held : held + shapes[k - 1][0]], grid, batch)
                image = torch.where(masks[k - 1], ctx.slope * image, image)
        return overlapped(back[..., :channels], grid, batch).permute(0, 3, 1, 2), None, *found


def convolved(x: Tensor, slope: float, parameters: Sequence[Tensor]) -> Tensor:
    """:class:`Convolution`, in float32 also under autocast."""
    with torch.autocast("cpu", enabled=False):
        return Convolution.apply(x.float(), slope, *parameters)
