"""The console: pages for people, in a browser, about what a gateway serves.

Belongs here: what a page shows, its forms, how they are read; templates, styles and scripts, which
are all local. Does not belong here: deciding who may see or do something (``access``), changing
routes (``store``), answering a prediction (``gateway``): pages ask for those as programs do.

    overview, model_page, releasing, usage_page, faults_page    what each page shows
    instance_form   a form from a model's schema, and an instance from a form
    pages, acting, signing_in    the routes: to look, to do something, to sign in and out
    rendering       a page as a response, with the headers that keep it safe
"""
