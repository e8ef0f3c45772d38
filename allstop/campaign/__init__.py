# SPDX-License-Identifier: GPL-2.0-or-later
"""Campaigns: many independent runs of guests, planned by a spec, kept in one store.

    spec -> combinations -> store: waiting -> leased to an executor -> result, once
                              ^                      |
                              +---- lost, released --+

Only the campaign's own process writes the store. An executor gets an assignment and reports a result or a loss; it
never sees the store. docs/campaign.md is for users, ADR 10 explains the store.
"""
