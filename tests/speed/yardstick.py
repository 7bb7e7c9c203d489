"""S3RNet as its release runs it: eager float32, contiguous tensors, a concatenation before every layer of a dense block,
queries and keys that the output does not see, and in training two optimisers and two backward passes.

It takes the parameters of this project's network, so that both compute the same function.
"""

import torch
from torch.nn import functional as F

from methods import losses


def dense_block(block, x):
    """(B, width, H, W) -> same."""
    x1 = F.leaky_relu(block.conv1(x), 0.2)
    x2 = F.leaky_relu(block.conv2(torch.cat((x, x1), 1)), 0.2)
    x3 = F.leaky_relu(block.conv3(torch.cat((x, x1, x2), 1)), 0.2)
    x4 = F.leaky_relu(block.conv4(torch.cat((x, x1, x2, x3), 1)), 0.2)
    return block.conv5(torch.cat((x, x1, x2, x3, x4), 1)) * 0.2 + x


def stack(groups, x):
    """Residual groups of three dense blocks."""
    for group in groups:
        x = dense_block(group.MFB3, dense_block(group.MFB2, dense_block(group.MFB1, x))) * 0.2 + x
    return x


def fused(net, z_h, z_m, z_mh, z_hm):
    """The attention and the weights of pixels, with four maps of HR size."""
    fuse, (batch, _, height, width) = net.fuse_att, z_h.shape

    def heads(x):
        return x.view(batch, 4, -1, height * width)

    query, key, value = heads(fuse.query_conv(z_h)), heads(fuse.key_conv(z_m)), heads(fuse.value_conv(z_mh))
    rows = torch.softmax(torch.einsum("bhcn,bhdn->bhcd", query, key) / 4, dim=-1)
    mixed = torch.einsum("bhcd,bhen->bhcn", rows, value)  # no shared subscript: both factors are summed on their own
    attended = fuse.output_conv(mixed.reshape(batch, -1, height, width)) + z_hm
    weights = torch.sigmoid(fuse.attention_weights(torch.cat((z_h, z_m, z_mh, attended), 1)))
    return sum(weights[:, i : i + 1] * z for i, z in enumerate((z_h, z_m, z_mh, attended)))


def s3rnet(network, lr_hsi, hr_msi):
    """Output and fused map, on the network's range."""
    net = network.decoder
    up = F.interpolate(lr_hsi, scale_factor=net.ratio, mode="bilinear")
    down = F.interpolate(hr_msi, scale_factor=1 / net.ratio, mode="bicubic")
    z_hm = F.leaky_relu(net.hmconv1(torch.cat((up, hr_msi), 1)), 0.2)
    z_hm = stack(net.hmfeat, z_hm) if net.run_hm else z_hm
    z_mh = stack(net.mhfeat, F.leaky_relu(net.mhconv1(torch.cat((lr_hsi, down), 1)), 0.2))
    z_h = stack(net.hfeat, F.leaky_relu(net.hconv1(lr_hsi), 0.2))
    z_m = stack(net.mfeat, F.leaky_relu(net.mconv1(hr_msi), 0.2))
    z_h, z_mh = (F.interpolate(z, scale_factor=net.ratio) for z in (z_h, z_mh))
    z_fused = fused(net, z_h, z_m, z_mh, z_hm)
    return net.last(F.leaky_relu(net.fuse(z_fused), 0.2)), z_fused


def distillation_step(teacher, student, optimizers, lr_hsi, hr_msi, reference):
    """The teacher's step, then the student's; images on [-1, 1]."""

    def fidelity(image):
        return F.l1_loss(image, reference) + 0.1 * losses.beba_paper(image, reference) \
            + 0.1 * losses.sam_paper((image + 1) / 2, (reference + 1) / 2)

    image, features = s3rnet(teacher, lr_hsi, hr_msi)
    optimizers[0].zero_grad()
    fidelity(image).backward()
    optimizers[0].step()
    image, features = image.detach(), features.detach()
    own, own_features = s3rnet(student, lr_hsi, hr_msi)
    loss = fidelity(own) + 0.1 * F.l1_loss(own, image) + 0.1 * losses.feature_kd(own_features, features)
    optimizers[1].zero_grad()
    loss.backward()
    optimizers[1].step()
    return loss.item()
