"""timm's training loop in short, with nothing of APR in it: the wrapper brings it, as it does to timm's train.py.

    python -m apr_dali.integrations.timm --loader apr-sp examples/timm_loop.py
    python -m apr_dali.integrations.timm --pair 0.5 examples/timm_loop.py --mixup 1

For timm's own: python -m apr_dali.integrations.timm --loader apr-sp pytorch-image-models/train.py DIR --model resnet50
"""

from __future__ import annotations

import argparse

import torch
from timm.data import Mixup, create_dataset, create_loader, resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models import create_model
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, accuracy, random_seed

from apr_dali.data.sample import write_sample


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder with train/ and val/; default: the built-in sample")
    parser.add_argument("--model", default="test_resnet")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--img-size", type=int, default=64)
    parser.add_argument("--mixup", type=float, default=0.0)
    args = parser.parse_args()
    data = args.data_dir or str(write_sample("sample"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    random_seed(0)
    dataset_train = create_dataset("", root=data, split="train", is_training=True)
    labels = dataset_train.reader.class_to_idx
    dataset_eval = create_dataset("", root=data, split="val", class_map=labels)
    classes = len(labels)
    model = create_model(args.model, num_classes=classes).to(device)
    optimizer = create_optimizer_v2(model, opt="adam", lr=2e-3)
    config = resolve_data_config({"img_size": args.img_size}, model=model)
    common = {"input_size": config["input_size"], "mean": config["mean"], "std": config["std"]}
    common |= {"batch_size": 32, "num_workers": 1, "use_prefetcher": False, "device": device, "color_jitter": 0.0}
    mixup_fn = Mixup(mixup_alpha=args.mixup, label_smoothing=0.1, num_classes=classes) if args.mixup else None
    loader_train = create_loader(dataset_train, is_training=True, distributed=False, **common)
    loader_eval = create_loader(dataset_eval, crop_pct=config["crop_pct"], **common)

    loss_fn = SoftTargetCrossEntropy() if mixup_fn else LabelSmoothingCrossEntropy(0.1)
    for epoch in range(args.epochs):
        if hasattr(dataset_train, "set_epoch"):
            dataset_train.set_epoch(epoch)
        losses, top1 = AverageMeter(), AverageMeter()
        model.train()
        for images, targets in loader_train:
            images, targets = images.to(device), targets.to(device)  # noqa: PLW2901
            if mixup_fn is not None:
                images, targets = mixup_fn(images, targets)  # noqa: PLW2901
            loss = loss_fn(model(images), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(images))
        model.eval()
        with torch.no_grad():
            for images, targets in loader_eval:
                top1.update(accuracy(model(images.to(device)), targets.to(device))[0].item(), len(images))
        print(f"epoch {epoch}: {losses.count} rows, loss {losses.avg:.3f}, top-1 {top1.avg:.1f}%")


if __name__ == "__main__":
    main()
