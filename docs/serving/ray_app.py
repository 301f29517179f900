"""Ray Serve: copies of the server on all machines of a Ray cluster, behind one address. `serve run ray.yaml`."""

import os

from ray import serve
from starlette.applications import Starlette


def build() -> Starlette:
    """The application; called on the machine where it is to run."""
    from s2s.server.asgi import application
    from s2s.server.settings import ServerSettings

    models = os.environ.get("S2S_MODELS", "whisper-base").split(",")
    return application(models, ServerSettings(token=os.environ.get("S2S_TOKEN") or None))


@serve.deployment
@serve.ingress(build)
class Speech:
    """A copy."""


app = Speech.bind()
