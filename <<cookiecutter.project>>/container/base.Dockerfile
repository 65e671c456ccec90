# What the image of a model is built on. Yours to raise: Dependabot proposes newer ones of the same Python.
FROM python:<< cookiecutter.__base >>-slim-bookworm
