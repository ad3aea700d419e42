"""Several views of one picture: what they are, that they are averaged, and that their gain is judged in pairs."""

import json

import numpy as np
import pytest
import torch
from commands import Done, tellapart, train
from PIL import Image
from torch import nn

from tellapart.evaluation.paired import paired
from tellapart.evaluation.views import seen_logits, views
from tellapart.preprocess import Preprocess
from tellapart.workflow.views import Gain


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """The run `a` on the digits that come with us, and a picture of one."""
    from sklearn.datasets import load_digits

    at = tmp_path_factory.mktemp("digits")
    Image.fromarray((load_digits(return_X_y=True)[0][3].reshape(8, 8) * 15).astype(np.uint8)).save(at / "three.png")
    return train(at, "a", "digits", "--epochs", "3")


def test_the_views_are_the_picture_its_shifts_and_their_mirrors():
    image = torch.arange(2 * 32 * 32 * 3).remainder(251).reshape(2, 32, 32, 3).to(torch.uint8)
    assert [torch.equal(one, image) for one in views(image, ())] == [True]
    same, mirrored = views(image, ("mirror",))
    assert torch.equal(same, image)
    assert torch.equal(mirrored, image.flip(2))
    _, down, up, right, left = views(image, ("shift",))
    assert torch.equal(down[:, 2:], image[:, :-2])
    assert torch.equal(up[:, :-2], image[:, 2:])
    assert torch.equal(right[:, :, 2:], image[:, :, :-2])
    assert torch.equal(left[:, :, :-2], image[:, :, 2:])
    assert torch.equal(down[:, 0], image[:, 0])  # the edge is repeated
    assert len(views(image, ("mirror", "shift"))) == 10


def test_views_are_averaged_as_probabilities_at_the_temperature():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8 * 8, 3))
    contract = Preprocess(size=8, channels=1, mean=(0.5,), std=(0.5,))
    images = torch.randint(0, 256, (4, 8, 8, 1), dtype=torch.uint8)
    with torch.no_grad():
        found = seen_logits(model, images, contract, ("mirror", "shift"), temperature=1.7)
        expected = torch.zeros(4, 3)
        for one in views(images, ("mirror", "shift")):
            x = (one.permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
            expected += (model(x) / 1.7).softmax(1) / 10
    assert torch.allclose((found / 1.7).softmax(1), expected, atol=1e-6)


def test_predict_answers_by_several_views(digits):
    one, many = (
        json.loads(tellapart(digits.at, "predict", "a", "three.png", "--top-k", "10", "--json", *more).out)
        for more in ((), ("--views", "shift"))
    )
    (plain,), (several,) = one["predictions"], many["predictions"]
    assert several["top"][0]["class"] == plain["top"][0]["class"] == "3"
    assert several["top"][0]["probability"] != plain["top"][0]["probability"]
    assert sum(top["probability"] for top in several["top"]) == pytest.approx(1)


def test_what_views_gain_is_judged_on_validation_and_said(digits):
    done = tellapart(digits.at, "test", "a", "--views", "mirror,shift", "--json")
    assert done.code == 0, done.err
    found, validation = json.loads(done.out)["views"], digits.run("a").status()["figures"][0]
    assert (found["each"], found["one"]["value"], found["one"]["n"]) == (10, validation["value"], validation["n"])
    gained = found["gained"]
    assert gained["difference"] == pytest.approx(found["several"]["value"] - found["one"]["value"])
    assert gained["low"] <= gained["difference"] <= gained["high"]
    assert "10 views of each validation picture (mirror, shift), n = 269" in (
        tellapart(digits.at, "test", "a", "--views", "mirror,shift").out
    )


def test_a_gain_is_said_only_when_it_can_be_told():
    def made(won: int, lost: int) -> str:
        first, second = np.ones(400), np.ones(400)
        first[:won], second[won : won + lost] = 0, 0
        zeros = np.zeros(400)
        gained = paired((first, zeros), (second, zeros))
        return Gain(kinds=("mirror",), each=2, one=None, several=None, gained=gained).verdict  # type: ignore[arg-type]

    assert made(30, 5) == "they answer better"
    assert made(5, 30) == "they answer worse"
    assert made(9, 7).startswith("no gain that can be told; 400 pictures show one of ")


def test_views_of_another_name_are_refused(digits):
    for words in (("predict", "a", "three.png"), ("test", "a")):
        done = tellapart(digits.at, *words, "--views", "miror")
        assert (done.code, "There are no views called 'miror'." in done.err) == (2, True)
