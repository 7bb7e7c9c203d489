"""What training computes: a task holds the networks, takes a batch and returns a dict of loss terms.

The training loop sees the dict alone: ``"loss"`` is differentiated, every other entry is called ``"<method>/<term>"``,
``"<method>/loss"`` among them, and logged. A batch is a dict of tensors in [0, 1]:

    lr_hsi  (B, members, bands, h, w)   one LR-HSI for each network trained, in the order of ``recipe.trains``
    hr_msi  (B, msi_bands, H, W)
    hr_hsi  (B, bands, H, W)            the reference
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from methods import losses
from methods.registry import Recipe, card


class Task(nn.Module):
    """Networks trained together, by name, and the map into their value ranges.

    It is built once a training, of the first stage's recipe, and lives through all stages. Whatever it holds beside the
    networks, such as a teacher, is a part of it and of the checkpoint.
    """

    def __init__(self, models: dict[str, nn.Module], recipe: Recipe) -> None:
        super().__init__()
        self.members = nn.ModuleDict(models)
        self.names = recipe.trains
        self.recipe = recipe

    def begin(self, recipe: Recipe) -> None:
        """Called at the start of every stage, the first one too; all recipes of a training share one task class."""
        self.recipe = recipe

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups: all parameters that this stage trains, each once.

        Returns:
            Each with ``"params"``, a list, and ``"name"``: of the method, or ``"<method>/<part>"`` of a part of its network
            (each method has one of its own name). Those of ``"lr"``, ``"weight_decay"`` and ``"schedule"`` that it has
            replace the recipe's.
        """
        return [{"params": list(model.parameters()), "name": name} for name, model in self.members.items()]

    def network(self, member: int = 0) -> Any:
        """The network that is the ``member``-th of ``recipe.trains``."""
        return self.members[self.names[member]]

    def inputs(self, batch: dict[str, Tensor], member: int) -> tuple[Tensor, Tensor, Tensor]:
        """(lr_hsi, hr_msi, reference) of one network, in its own range."""
        low, high = card(self.names[member]).input_range
        images = batch["lr_hsi"][:, member], batch["hr_msi"], batch["hr_hsi"]
        lr_hsi, hr_msi, reference = (image * (high - low) + low for image in images)
        return lr_hsi, hr_msi, reference


def total(terms: Iterable[Tensor]) -> Tensor:
    """The sum of loss terms, in their order."""
    return reduce(torch.add, terms)


class Supervised(Task):
    """One network, one loss; a method with another loss than L1 subclasses this and names it."""

    loss = staticmethod(losses.l1)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        lr_hsi, hr_msi, reference = self.inputs(batch, 0)
        loss = self.loss(self.network()(lr_hsi, hr_msi), reference)
        return {"loss": loss, f"{self.names[0]}/loss": loss}


class SupervisedMSE(Supervised):
    """One network, the mean squared error."""

    loss = staticmethod(losses.mse)


class HOKD(Task):
    """S3RNet's hybrid online knowledge distillation: teacher and student learn side by side, as the text says.

    teacher = L1(T, Y) + 0.1 BEBA(T, Y) + 0.1 SAM(T, Y)
    student = L1(S, Y) + 0.1 L1(S, T) + 0.1 KD(F_S, F_T) + 0.1 BEBA(S, Y) + 0.1 SAM(S, Y)

    T and F_T (output and fused feature map) are detached in the student's terms, so one backward pass of the sum
    is the release's two steps.
    """

    reconstruction = staticmethod(losses.l1)
    beba: staticmethod[..., Tensor] = staticmethod(losses.beba_paper)

    @staticmethod
    def sam(estimate: Tensor, reference: Tensor) -> Tensor:
        """Between spectra on [0, 1]: on the network's [-1, 1] an offset would turn all of them the same way."""
        return losses.sam_paper((estimate + 1) / 2, (reference + 1) / 2)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms, of the teacher (first of ``recipe.trains``) and the student (second)."""
        teacher_name, student_name = self.names
        *images, reference = self.inputs(batch, 0)
        teacher_image, teacher_map = self.network(0).forward_with_features(*images)
        *images, _ = self.inputs(batch, 1)
        student_image, student_map = self.network(1).forward_with_features(*images)

        terms = self.fidelity(teacher_name, teacher_image, reference)
        terms |= self.fidelity(student_name, student_image, reference)
        terms[f"{student_name}/output"] = 0.1 * self.reconstruction(student_image, teacher_image.detach())
        terms[f"{student_name}/kd"] = 0.1 * losses.feature_kd(student_map, teacher_map.detach())
        for name in (teacher_name, student_name):
            terms[f"{name}/loss"] = total(value for key, value in terms.items() if key.startswith(f"{name}/"))
        terms["loss"] = terms[f"{teacher_name}/loss"] + terms[f"{student_name}/loss"]
        return terms

    def fidelity(self, name: str, image: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """The weighted terms that compare an output with the reference."""
        return {
            f"{name}/l1": self.reconstruction(image, reference),
            f"{name}/beba": 0.1 * self.beba(image, reference),
            f"{name}/sam": 0.1 * self.sam(image, reference),
        }


class HOKDWeighted(HOKD):
    """HOKD with the coefficients of ``recipe.weights`` in the place of 0.1; the two L1 terms to the reference stay 1.

    A key is ``"<teacher or student>/<term>"``, a term one of ``beba``, ``sam``, ``kd``, ``output`` (the text's lambda_1
    to lambda_4 for the student).
    """

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        terms = super().forward(batch)
        for role, name in zip(("teacher", "student"), self.names):
            for key, weight in self.recipe.weights:
                if key.startswith(f"{role}/"):
                    term = f"{name}/{key.partition('/')[2]}"
                    terms[term] = terms[term] * (weight / 0.1)
            parts = (value for key, value in terms.items() if key.startswith(f"{name}/") and key != f"{name}/loss")
            terms[f"{name}/loss"] = total(parts)
        terms["loss"] = total(terms[f"{name}/loss"] for name in self.names)
        return terms


class WithoutTeacher(HOKD):
    """The terms of HOKD that compare one network with the reference, and no teacher."""

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step's loss terms."""
        *images, reference = self.inputs(batch, 0)
        (name,) = self.names
        terms = self.fidelity(name, self.network()(*images), reference)
        terms[f"{name}/loss"] = terms["loss"] = total(terms.values())
        return terms


class HOKDRelease(HOKD):
    """HOKD with the loss terms of the S3RNet release where they differ from the text (see :mod:`methods.losses`)."""

    reconstruction = staticmethod(losses.smooth_l1)
    beba = staticmethod(losses.beba_release)
    sam = staticmethod(losses.sam_release)
